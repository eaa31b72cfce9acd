listener "mx" { address = "127.0.0.1:2525" }
listener "local" {
  address = "127.0.0.1:588"
  role    = "submission"
}
listener "world" {
  address = ":587"
  role    = "submission"
}
