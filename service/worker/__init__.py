"""The worker: claims jobs, walks their images through lanes, writes pictures and results. The only part with torch."""
