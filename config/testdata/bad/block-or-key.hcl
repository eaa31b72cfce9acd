listener "mx" { address = "127.0.0.1:2525" }
admin = "127.0.0.1:8025"
hostname {
}
