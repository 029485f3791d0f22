"""What the admin's first page says about calls: queries over records, and the shapes of its charts."""
