"""One file per kind of source; each turns it into a prepared data set (``fsrst.data.manifest``)."""
