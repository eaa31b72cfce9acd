listener { address = ":25" }
domain "a.example" "b.example" { mailboxes = ["*"] }
queue "main" {}
