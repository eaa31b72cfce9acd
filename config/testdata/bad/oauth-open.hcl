listener "mx" { address = "127.0.0.1:2525" }
oauth {
  issuer   = "https://id.example"
  audience = "mail"
  keys     = "/jwks.open"
}
