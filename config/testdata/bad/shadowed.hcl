listener "mx" { address = "127.0.0.1:2525" }
domain "example.org" { mailboxes = ["*"] }
route "example.org"      { via = "hold" }
route ".example.net"     { via = "mx" }
route "mail.example.net" { via = "hold" }
route "example.net"      { via = "hold" }
route "*"                { via = "mx" }
route "partner.example"  { via = "hold" }
