listener "mx" { address = "127.0.0.1:2525" }
domains "example.org" {
  mailboxes = ["alice"]
}
cluster {
  keep = "90d"
}
