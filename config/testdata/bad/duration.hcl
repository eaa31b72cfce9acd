listener "mx" { address = "127.0.0.1:2525" }
queue {
  retry         = ["1m", "5 minutes", "0s"]
  expire        = "5w"
  expire_bounce = "-1d"
  delay_notice  = "4"
}
