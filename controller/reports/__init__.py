"""Reports: results gathered, put into words and pictures, and printed to PDF in a confined process."""
