listener "mx" {
}
listener "b x" { address = "here" }
listener "c"   { address = "127.0.0.1:smtp" }
listener "d"   { address = "mail.example.org:25" }
listener "e" {
  address = ":2525"
  role    = "relay"
  tls     = "startls"
}
admin {}
