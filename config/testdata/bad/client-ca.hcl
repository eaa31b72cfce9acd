listener "a" {
  address   = "127.0.0.1:2525"
  client_ca = ""
}
listener "b" {
  address   = "127.0.0.1:2526"
  role      = "lmtp"
  client_ca = "/mx1.pem"
}
listener "c" {
  address   = "127.0.0.1:2527"
  tls       = "none"
  client_ca = "/mx1.pem"
}
listener "d" {
  address   = "127.0.0.1:2528"
  client_ca = "/gone.pem"
}
listener "e" {
  address   = "127.0.0.1:2529"
  client_ca = "/mx1.key"
}
listener "f" {
  address   = "127.0.0.1:2530"
  client_cas = "/mx1.pem"
}
