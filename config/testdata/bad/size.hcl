listener "mx" { address = "127.0.0.1:2525" }
limits {
  message_size = "50MB"
  recipients   = 10.5
}
