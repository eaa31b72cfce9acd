listener "mx" { address = "127.0.0.1:2525" }
route "a.example" {
  via           = "smtp://gw.example:587"
  tls           = "require"
  username      = "us"
  password_file = "/pw"
}
route "b.example" {
  via           = "smtp://192.0.2.1:587"
  auth          = "plain"
  username      = "us"
  password_file = "/pw"
  tls           = "opportunistic"
}
route "c.example" {
  via           = "smtps://gw.example"
  auth          = "oauthbearer"
  tls           = "require"
  username      = "us"
  password_file = "/pw"
}
route "d.example" {
  via           = "smtps://192.0.2.1"
  username      = "us"
  password_file = "/pw"
}
route "e.example" {
  via           = "smtps://192.0.2.1"
  auth          = "scram"
  tls           = "require"
  username      = "us"
  password_file = "/pw"
}
