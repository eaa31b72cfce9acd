listener "mx" {
  address      = "127.0.0.1:2525"
  proxy_from   = ["haproxy.example"]
  xclient_from = "127.0.0.1"
  xclient_form = ["127.0.0.1"]
}
domain "example.org" {
  mailboxes = ["alice"]
}
