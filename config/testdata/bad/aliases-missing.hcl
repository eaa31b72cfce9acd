listener "mx" { address = "127.0.0.1:2525" }
domain "example.org" {
  mailboxes = ["alice"]
  aliases   = "/etc/aliases"
}
domain "example.net" { aliases = "/aliases.gone" }
