hostname   = "mx 1"
postmaster = "alice"
data_dir   = ""
listener "mx" { address = "127.0.0.1:2525" }
domain "exa mple" { mailboxes = ["*"] }
domain "example.org" {
  mailboxes = ["alice@example.org", "", "bob"]
}
route "*.example.org" { via = "mx" }
dns { servers = ["8.8.8.8", "ns.example.org"] }
