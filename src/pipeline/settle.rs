//! **settle**: the promise. Two doors that the corridor calls: `reserve` (commit a, end b) before store, `release`
//! (b+1) when everything before has been acknowledged (PROMISE, clauses 0 to 2).
