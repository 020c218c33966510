//! iproute2's two JSON layouts: one line, and `-p`.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

use super::Options;

/// `value` as `ip -j` (or `ip -j -p`) prints it, with the final newline.
pub(super) fn print<T: Serialize>(options: &Options, value: &T) -> String {
    let mut bytes = Vec::new();
    let done = if options.pretty {
        let mut writer = serde_json::Serializer::with_formatter(&mut bytes, Pretty::default());
        value.serialize(&mut writer)
    } else {
        value.serialize(&mut serde_json::Serializer::new(&mut bytes))
    };
    done.expect("the view's types have string keys and are written to memory");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}

/// The layout of `lib/json_writer.c`: a name starts a line at four spaces per level, arrays stay on the line.
#[derive(Default)]
struct Pretty {
    depth: usize,
    filled: bool,
}

impl Pretty {
    fn line<W: ?Sized + io::Write>(&self, w: &mut W) -> io::Result<()> {
        write!(w, "\n{:1$}", "", self.depth * 4)
    }
}

impl Formatter for Pretty {
    fn begin_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        w.write_all(b"[ ")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.depth -= 1;
        w.write_all(if self.filled { b" ]" } else { b"]" })
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        w.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(w)?;
        }
        w.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if !first {
            w.write_all(b",")?;
        }
        self.line(w)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Route {
        dst: &'static str,
        flags: Vec<&'static str>,
        hops: Vec<Hop>,
    }

    #[derive(Serialize)]
    struct Hop {
        dev: &'static str,
    }

    fn routes() -> Vec<Route> {
        vec![
            Route {
                dst: "default",
                flags: vec![],
                hops: vec![],
            },
            Route {
                dst: "10.0.0.0/8",
                flags: vec!["onlink", "linkdown"],
                hops: vec![Hop { dev: "a" }, Hop { dev: "b" }],
            },
        ]
    }

    /// iproute2 6.1, `ip -j -p route` with a multipath route.
    #[test]
    fn pretty_is_laid_out_as_iproute2_does() {
        let options = Options {
            pretty: true,
            ..Options::default()
        };
        let text = r#"[ {
        "dst": "default",
        "flags": [ ],
        "hops": [ ]
    },{
        "dst": "10.0.0.0/8",
        "flags": [ "onlink","linkdown" ],
        "hops": [ {
                "dev": "a"
            },{
                "dev": "b"
            } ]
    } ]
"#;
        assert_eq!(print(&options, &routes()), text);
    }

    #[test]
    fn without_pretty_everything_is_on_one_line() {
        let text = print(&Options::default(), &vec![Hop { dev: "a" }]);
        assert_eq!(text, "[{\"dev\":\"a\"}]\n");
    }
}
