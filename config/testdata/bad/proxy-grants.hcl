listener "mx" {
  address      = ":25"
  proxy_from   = ["198.51.100.7", "2001:db8::/64"]
  relay_from   = ["192.0.2.0/24", "198.51.100.0/24"]
  xclient_from = ["2001:db8::7"]
}
