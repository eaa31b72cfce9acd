listener "mx" { address = "127.0.0.1:2525" }
queue  { max_recipients = -1 }
limits {
  message_size = -5
  recipients   = -100
}
