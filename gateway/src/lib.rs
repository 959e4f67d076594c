//! GRASP git server.
