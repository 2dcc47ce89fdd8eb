"""Who is waiting: no data of record. Everything here can be lost without harm, and is, at every restart."""
