tls { self_signed = true }
listener "a" {
  address    = ":587"
  role       = "submision"
}
listener "b" {
  address    = ":588"
  role       = "submission"
  tls        = "none"
  relay_from = ["192.0.2.0/24"]
}
listener "c" {
  address    = "127.0.0.1:25"
  role       = "lmtp"
  relay_from = ["192.0.2.0/24"]
}
