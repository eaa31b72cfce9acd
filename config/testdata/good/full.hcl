hostname      = "mx1.example.org"
data_dir      = env("DATA")
submit_socket = "/run/postrider/submit.sock"
postmaster    = "alice@example.org"

tls {
  cert = "/mx1.pem"
  key  = "/mx1.key"
}

listener "mx" {
  address    = ":25"
  role       = "mx"
  tls        = "none"
  relay_from = ["192.0.2.0/24", "2001:db8::1"]
  refuse     = ["198.51.100.0/24"]
  verify     = "relay_from"
  announce   = true

  no_soliciting = ["org.example:ADV", "net.example:ADV:ADLT"]
  proxy_from    = ["198.51.100.7"]
  xclient_from  = ["198.51.100.8/31", "2001:db8::/64"]
}
listener "second" { address = "127.0.0.1:2525" }
listener "submission" {
  address = ":587"
  role    = "submission"
}
listener "submissions" {
  address = ":465"
  role    = "submission"
  tls     = "implicit"

  client_ca = "/mx1.pem"
}
listener "lmtp" {
  address = "127.0.0.1:24"
  role    = "lmtp"
}

oauth {
  issuer        = "https://id.example.org"
  audience      = "mx1.example.org"
  keys          = "/jwks.json"
  claim         = "mail"
  scope         = "smtp"
  configuration = "https://id.example.org/.well-known/openid-configuration"
}

admin { address = "127.0.0.1:8025" }
dns   { servers = ["127.0.0.1:5353", "::1"] }

domain "Example.org" {
  mailboxes = ["alice", "bob smith"]
  aliases   = "/aliases"
  deliver   = "maildir:/var/mail/{domain}/{user}"
}
domain "example.net" {
  aliases        = "/aliases"
  allow_programs = false
  mailboxes      = ["alice", "bob"]
  deliver        = "lmtp:///run/dovecot/lmtp"
}
domain "backup.example" {
  mailboxes = ["*"]
  deliver   = "mx"
}

route "partner.example" { via = "smtp://gw.internal:2525" }
route "six.example"     { via = "smtp://[2001:db8::2]" }
route ".odd.example" {
  via     = "mx"
  port    = 2526
  private = true
  tls     = "none"

  downgrade = "bounce"
}
route "hub.example" {
  via           = "smtps://hub.example.org"
  tls           = "verify"
  username      = "postrider@hub.example"
  password_file = "/pw"
}
route "smart.example" {
  downgrade     = "encode"
  via           = "smtp://smart.example.org:587"
  username      = "us"
  password_file = "/pw"
}
route "token.example" {
  via           = "smtps://token.example.org"
  auth          = "oauthbearer"
  username      = "us"
  password_file = "/pw"
}
route "proof.example" {
  via           = "smtps://proof.example.org"
  auth          = "scram"
  tls           = "require"
  username      = "us"
  password_file = "/pw"
}
route "cert.example" {
  via  = "smtps://cert.example.org"
  auth = "external"
  cert = "/mx1.pem"
  key  = "/mx1.key"
}
route "near.example" {
  via           = "smtp://127.0.0.1:2587"
  username      = "us"
  password_file = "/pw"
}
route "tunnel.example" {
  via           = "smtp://localhost:2587"
  tls           = "opportunistic"
  username      = "us"
  password_file = "/pw"
}
route "sure.example" { via = "smtps://192.0.2.1:4465" }
route "mailstore.example" {
  via     = "lmtp://[::1]:24"
  tls     = "none"
  private = true
}
route "closed.example" { via = "error:550 5.1.2 We do not write there" }
route "later.example"  { via = "hold" }
route "*"              { via = "mx" }

queue {
  retry          = ["30s", "1h30m"]
  expire         = "2d"
  expire_bounce  = "12h"
  delay_notice   = "0s"
  max_recipients = 500
}
limits {
  message_size = "1GiB"
  recipients   = 200
  exempt       = []
  min_free     = "2GiB"

  future_release  = "7d"
  future_messages = 50
  connections  = 5000
}
journal {
  keep     = "30d"
  max_size = "1GiB"
}
