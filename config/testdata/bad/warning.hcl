listener "mx" { address = "127.0.0.1:2525" }
domain "example.org" {}
route "*" { via = "discard" }
queue { delay_notice = "6d" }
limits {
  message_size = "1KiB"
  recipients   = 5
}
