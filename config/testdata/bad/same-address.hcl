listener "mx"   { address = "127.0.0.1:2525" }
listener "all"  { address = "0.0.0.0:2525" }
listener "any"  { address = "[::1]:0" }
listener "any2" { address = "[::1]:0" }
admin           { address = "127.0.0.1:2525" }
