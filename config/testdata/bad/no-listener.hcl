hostname = "mx1.example.org"
