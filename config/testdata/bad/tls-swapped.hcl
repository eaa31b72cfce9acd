listener "mx" { address = "127.0.0.1:2525" }
tls {
  cert = "/mx1.key"
  key  = "/mx1.pem"
}
