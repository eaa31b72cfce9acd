hostname = 5
listener "mx" {
  address    = ["127.0.0.1:2525"]
  relay_from = true
}
domain "example.org" {
  mailboxes = ["alice", 7]
}
route "*" {
  via     = "mx"
  private = "yes"
}
queue  { max_recipients = "many" }
limits { message_size = ["1MiB"] }
