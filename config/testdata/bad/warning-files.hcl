hostname = "mail.example.org"
tls {
  cert = "/mx1.pem"
  key  = "/open.key"
}
listener "mx" {
  address = ":25"
  tls     = "implicit"
}
listener "tls" {
  address = ":465"
  role    = "submission"
}
domain "example.org" { aliases = "/aliases.open" }
route "a.example" {
  via           = "smtps://gw.example"
  username      = "us"
  password_file = "/pw.open"
}
