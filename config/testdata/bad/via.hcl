listener "mx" { address = "127.0.0.1:2525" }
route "a.example" { via = "smpt://gw.example" }
route "b.example" { via = "gw.example" }
route "c.example" { via = "smtp://gw.example:99999" }
route "d.example" { via = "smtp://user@gw.example" }
route "e.example" { via = "maildir:" }
route "f.example" { via = "maildir:/var/mail/{name}" }
route "g.example" { via = "error:250 fine" }
route "h.example" { via = "error:550 4.1.2 No" }
route "i.example" { via = "error:550 5.1.2" }
route "j.example" { via = "https://gw.example" }
route "k.example" {}
route "l.example" {
  via  = "smtp://gw.example"
  port = 26
  tls  = "verify"
}
route "m.example" {
  via  = "mx"
  port = 70000
}
route "n.example" {
  via     = "hold"
  private = true
}
