listener "mx" { address = ":2525" }
listener "mx" { address = ":2526" }
domain "example.org" { mailboxes = ["*"] }
domain "EXAMPLE.org" { mailboxes = ["alice"] }
admin { address = "127.0.0.1:8025" }
admin { address = "127.0.0.1:8026" }
