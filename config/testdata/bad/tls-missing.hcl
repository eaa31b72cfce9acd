listener "mx" { address = "127.0.0.1:2525" }
tls {
  cert = "/gone.pem"
  key  = "/gone.key"
}
