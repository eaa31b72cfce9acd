listener "mx" {
  address       = "127.0.0.1:2525"
  no_soliciting = ["org.example:ADV", "1", "a,b", 5]
}
listener "other" {
  address       = "127.0.0.1:2526"
  no_soliciting = "org.example:ADV"
}
domain "example.org" {
  mailboxes = ["alice"]
}
limits {
  future_release  = "40y"
  future_messages = 0
}
