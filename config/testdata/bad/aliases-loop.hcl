listener "mx" { address = "127.0.0.1:2525" }
domain "example.org" { aliases = "/aliases.loop" }
route "a.example" { via = "discard" }
