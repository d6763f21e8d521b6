"""Time, memory and money of a run on accelerators that are not here, by arithmetic from data sheets."""
