listener "mx" { address = "127.0.0.1:2525" }
route "a.example" {
  via           = "smtps://gw.example"
  auth          = "scam"
  username      = "us"
  password_file = "/pw"
}
route "b.example" {
  via  = "smtps://gw.example"
  auth = "scram"
}
route "c.example" {
  via           = "smtps://gw.example"
  auth          = "oauthbearer"
  username      = "us"
  cert          = "/mx1.pem"
  password_file = "/pw"
}
route "d.example" {
  via           = "smtps://gw.example"
  auth          = "external"
  password_file = "/pw"
}
route "e.example" {
  via  = "smtps://gw.example"
  auth = "external"
}
route "f.example" {
  via  = "smtps://gw.example"
  auth = "external"
  cert = "/mx1.pem"
}
route "g.example" {
  via  = "smtps://gw.example"
  auth = "external"
  cert = "/mx1.pem"
  key  = "/pw"
}
route "h.example" {
  via  = "smtps://gw.example"
  auth = "external"
  cert = "/gone.pem"
  key  = "/mx1.key"
}
route "i.example" {
  via  = "smtps://gw.example"
  auth = "external"
  cert = "/mx1.pem"
  key  = "/gone.key"
}
route "j.example" {
  via  = "smtp://gw.example"
  tls  = "none"
  auth = "external"
  cert = "/mx1.pem"
  key  = "/mx1.key"
}
route "k.example" {
  via  = "mx"
  auth = "external"
}
route "l.example" {
  via      = "smtps://gw.example"
  key      = "/mx1.key"
  username = "us"
}
route "m.example" {
  via       = "smtps://gw.example"
  pasword_file = "/pw"
}
