tls { self_signed = true }
listener "a" {
  address  = ":25"
  verify   = "authentcated"
  refuse   = ["192.0.2.0/33"]
  announce = "yes"
}
listener "b" {
  address = ":587"
  role    = "submission"
  verify  = "relay_from"
}
listener "c" {
  address = "127.0.0.1:24"
  role    = "lmtp"
  verify  = "authenticated"
}
listener "d" {
  address = ":26"
  verify  = "anyone"
}
listener "e" {
  address = ":27"
  verify  = "relay_from"
}
listener "f" {
  address = "127.0.0.1:28"
  verify  = "anyone"
  refuse  = "192.0.2.0/24"
  verfy   = "nobody"
}
