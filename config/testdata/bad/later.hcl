listener "mx" { address = "127.0.0.1:2525" }
route "a.example" { via = "https://hooks.example/in" }
domain "example.org" { deliver = "pipe:/usr/bin/procmail" }
