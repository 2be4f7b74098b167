"""What any room may use: errors, plug-in names, settings, files, hashes, images. It imports no other room."""
