mod state;

fn main() {}
