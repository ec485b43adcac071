"""One file a change, in order; one that was released is never edited."""
