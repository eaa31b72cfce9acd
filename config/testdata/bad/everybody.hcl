listener "open" {
  address      = ":25"
  relay_from   = ["192.0.2.0/24", "0.0.0.0/0", "::/0"]
  xclient_from = ["::ffff:0:0/96"]
}
listener "proxied" {
  address    = ":26"
  proxy_from = ["0.0.0.0/0"]
}
listener "users" {
  address      = ":587"
  role         = "submission"
  xclient_from = ["::/0"]
}
listener "near" {
  address      = "127.0.0.1:27"
  relay_from   = ["0.0.0.0/0"]
}
listener "near-and-speaks" {
  address      = "127.0.0.1:28"
  relay_from   = ["0.0.0.0/0"]
  xclient_from = ["0.0.0.0/0"]
}
listener "near-and-proxied" {
  address      = "127.0.0.1:29"
  relay_from   = ["::/0"]
  proxy_from   = ["::/0"]
  xclient_from = ["::/0"]
}
