//! Round trips and single cases.
