listener "mx" { address = "127.0.0.1:2525" }
route "a.example" {
  via      = "smtp://gw.example:587"
  username = "us"
}
route "b.example" {
  via           = "smtp://gw.example:587"
  password_file = "/pw"
}
route "c.example" {
  via           = "mx"
  username      = "us"
  password_file = "/pw"
}
route "d.example" {
  via           = "smtp://gw.example:587"
  tls           = "none"
  username      = "us"
  password_file = "/pw"
}
route "e.example" {
  via           = "smtps://gw.example"
  username      = "us"
  password_file = "/pw.gone"
}
route "f.example" {
  via           = "smtps://gw.example"
  username      = ""
  password_file = "/pw"
}
route "g.example" {
  via           = "smtps://gw.example"
  username      = "us"
  password_file = "/pw.empty"
}
route "h.example" {
  via           = "smtps://gw.example"
  username      = "us"
  password_file = "/pw.lines"
}
route "i.example" {
  via           = "smtps://gw.example"
  username      = "us"
  password_file = "/pw.long"
}
route "j.example" {
  via           = "smtps://gw.example"
  username      = "us"
  password_file = "/pw.d"
}
