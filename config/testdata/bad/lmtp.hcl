listener "mx" { address = "127.0.0.1:2525" }
domain "example.org" { deliver = "lmtp://127.0.0.1" }
domain "example.net" { deliver = "lmtp:///" }
domain "example.com" { deliver = "lmtp:/run/dovecot/lmtp" }
route "a.example" { via = "lmtp://gw.example:25" }
route "b.example" { via = "lmtp:///xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" }
route "c.example" { via = "smtps://gw example" }
route "d.example" {
  via  = "lmtp://[::1]:24"
  port = 24
}
