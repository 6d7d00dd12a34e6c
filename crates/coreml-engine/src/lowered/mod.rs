//! Operations of the optimised plan: fused, packed, channels-last forms of the plain ones.
