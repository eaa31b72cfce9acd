listener "mx" {
  address    = ":2525"
  relay_from = ["192.0.2.0/24", "192.0.2.7/24", "10.0.0.0/33", "localhost"]
}
limits { exempt = "10.0.0.0" }
