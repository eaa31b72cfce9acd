listener "mx" { address = "127.0.0.1:2525" }
route "a.example" {
  via       = "mx"
  downgrade = "return"
}
route "b.example" {
  via       = "hold"
  downgrade = "bounce"
}
