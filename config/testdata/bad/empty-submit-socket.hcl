submit_socket = ""
listener "mx" { address = ":25" }
