listener "mx" { address = "127.0.0.1:2525" }
route "a.example" {
  via = "smtp://gw.example"
  tls = "verfy"
}
route "b.example" {
  via = "smtps://gw.example"
  tls = "none"
}
route "c.example" {
  via = "lmtp:///run/lmtp"
  tls = "verify"
}
route "d.example" {
  via = "hold"
  tls = "require"
}
route "e.example" {
  via = "smtps://192.0.2.1"
  tls = "verify"
}
route "f.example" {
  via = "mx"
  tls = "verify"
}
route "g.example" {
  via = "smtps://gw.example"
  tls = "opportunistic"
}
