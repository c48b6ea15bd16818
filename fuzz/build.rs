//! Turns `include/flowmesh.h` into the table of its functions that the target `calls` works from:
//! how to declare each, which arguments to make for it, and what to do with its result. A function
//! that is added to the header is called from the next build on; a type that the interpreter does
//! not know fails the build.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf};

/// Functions that are not called, each for a reason.
const LEFT_OUT: [&str; 2] = [
    // Ends the library for good.
    "flowmesh_shutdown",
    // Its callback may not call the library, and there is one for the whole process.
    "flowmesh_log_set_callback",
];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let header = root.join("../include/flowmesh.h");
    println!("cargo::rerun-if-changed={}", header.display());
    println!("cargo::rerun-if-changed=build.rs");
    let text = fs::read_to_string(header).expect("the header is there");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("header.rs");
    fs::write(out, Header::parse(&tokens(&text)).generate()).expect("OUT_DIR can be written");
}

/// A type with its name: of a parameter or a field.
struct Named {
    name: String,
    base: String,
    stars: usize,
    constant: bool,
    array: usize,
}

#[derive(Default)]
struct Header {
    aliases: BTreeMap<String, String>,
    structs: BTreeMap<String, Vec<Named>>,
    opaque: Vec<String>,
    /// Result and parameters.
    callbacks: BTreeMap<String, (Named, Vec<Named>)>,
    functions: Vec<(Named, Vec<Named>)>,
}

/// The declarations without comments, directives and marks.
fn tokens(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("/*") {
        plain.push_str(&rest[..at]);
        rest = rest[at..].split_once("*/").expect("comments end").1;
    }
    plain.push_str(rest);
    let mut out = Vec::new();
    let mut directive = false;
    for line in plain.lines() {
        let line = line.split("//").next().unwrap_or_default().trim_end();
        directive |= line.trim_start().starts_with('#');
        let (skip, goes_on) = (directive, line.ends_with('\\'));
        directive &= goes_on;
        if skip || line.starts_with("extern ") {
            continue;
        }
        if line.starts_with("static inline") {
            break;
        }
        let mut word = String::new();
        for c in line.chars().chain([' ']) {
            if c.is_alphanumeric() || c == '_' {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                out.push(std::mem::take(&mut word));
            }
            if !c.is_whitespace() {
                out.push(c.to_string());
            }
        }
    }
    out.retain(|token| token != "FLOWMESH_NULLABLE" && token != "FLOWMESH_MUST_CHECK");
    out
}

impl Named {
    fn parse(tokens: &[String]) -> Self {
        let mut named =
            Self { name: String::new(), base: String::new(), stars: 0, constant: false, array: 0 };
        let mut words = Vec::new();
        for token in tokens {
            match &token[..] {
                "const" => named.constant = true,
                "*" => named.stars += 1,
                "FLOWMESH_JOB_ID_SIZE" => named.array = 33,
                "[" | "]" => {}
                word => words.push(word),
            }
        }
        named.base = words.first().expect("a type").to_string();
        named.name = words.get(1).unwrap_or(&"").to_string();
        named
    }

    fn list(tokens: &[String]) -> Vec<Self> {
        tokens
            .split(|token| token == ",")
            .filter(|part| !part.is_empty() && *part != ["void"])
            .map(Self::parse)
            .collect()
    }
}

impl Header {
    fn parse(tokens: &[String]) -> Self {
        let mut header = Self::default();
        let mut rest = tokens;
        while !rest.is_empty() && rest[0] != "}" {
            let words: Vec<&str> = rest.iter().take(3).map(String::as_str).collect();
            let end = rest.iter().position(|token| token == ";").expect("declarations end");
            match words[..] {
                ["typedef", "struct", "{"] => {
                    let close = rest.iter().position(|token| token == "}").expect("structs end");
                    let fields = rest[3..close].split(|token| token == ";");
                    let fields = fields.filter(|field| !field.is_empty()).map(Named::parse).collect();
                    header.structs.insert(rest[close + 1].clone(), fields);
                    rest = &rest[close + 3..];
                    continue;
                }
                ["typedef", "struct", name] => header.opaque.push(name.to_owned()),
                ["typedef", result, "("] => {
                    // typedef RESULT ( * NAME ) ( PARAMETERS ) ;
                    let result = Named::parse(&[result.to_owned(), "result".to_owned()]);
                    header.callbacks.insert(rest[4].clone(), (result, Named::list(&rest[7..end - 1])));
                }
                ["typedef", base, name] => {
                    header.aliases.insert(name.to_owned(), base.to_owned());
                }
                _ => {
                    let open = rest.iter().position(|token| token == "(").expect("a function");
                    let function = Named::parse(&rest[..open]);
                    header.functions.push((function, Named::list(&rest[open + 1..end - 1])));
                }
            }
            rest = &rest[end + 1..];
        }
        header
    }

    fn base<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, |base| base)
    }

    /// A thing that calls make, free and lend: opaque, or a struct that does not start with its size.
    fn is_handle(&self, name: &str) -> bool {
        let lent = |name| !matches!(name, "flowmesh_view_t" | "flowmesh_header_t");
        self.opaque.iter().any(|opaque| opaque == name)
            || self.structs.get(name).is_some_and(|fields| fields[0].name != "size" && lent(name))
    }

    fn rust_type(&self, named: &Named) -> String {
        if named.stars > 0 || self.callbacks.contains_key(&named.base) {
            return "*mut c_void".into();
        }
        match self.base(&named.base) {
            "void" => "()".into(),
            "int32_t" | "int" => "i32".into(),
            "int64_t" => "i64".into(),
            "uint64_t" => "u64".into(),
            "size_t" => "usize".into(),
            "double" => "f64".into(),
            "bool" => "bool".into(),
            "flowmesh_view_t" => "View".into(),
            other => panic!("the interpreter does not know the type {other} of {}", named.name),
        }
    }

    fn declaration(&self, (function, parameters): &(Named, Vec<Named>)) -> String {
        let parameters: Vec<String> = parameters
            .iter()
            .enumerate()
            .map(|(i, parameter)| format!("p{i}: {}", self.rust_type(parameter)))
            .collect();
        format!("fn {}({}) -> {}", function.name, parameters.join(", "), self.rust_type(function))
    }

    /// The expression that makes an argument.
    fn argument(&self, function: &str, parameter: &Named, before: Option<&Named>) -> String {
        let Named { name, base, stars, constant, .. } = parameter;
        match (self.base(base), stars) {
            ("flowmesh_error_t", 2) if name == "error" => "w.error()".into(),
            ("flowmesh_client_options_t", 1) if function == "flowmesh_client_open" => {
                "w.client_options()".into()
            }
            (base, 2) if self.is_handle(base) => format!("w.out_handle({base:?})"),
            (base, 1) if function.ends_with("_free") => format!("w.taken({base:?})"),
            (base, 1) if self.is_handle(base) => format!("w.handle({base:?})"),
            (base, 1) if self.structs.contains_key(base) && *constant => {
                format!("w.structs({base:?}, {})", name.ends_with('s') && base == "flowmesh_event_t")
            }
            ("flowmesh_view_t", 1) => "w.out(16)".into(),
            (base, 1) if self.structs.contains_key(base) => format!("w.out_struct({base:?})"),
            ("char", 1) if *constant => format!("w.text({name:?})"),
            ("char", 1) => "w.out(33)".into(),
            ("int64_t", 1) if name == "offsets" => "w.out_each(8)".into(),
            ("int64_t" | "size_t", 1) => "w.out(8)".into(),
            ("int32_t" | "int", 1) => "w.out(4)".into(),
            ("bool", 1) => "w.out(1)".into(),
            ("void", 1) if name == "user_data" => "w.user_data()".into(),
            ("void", 1) => "w.size(\"data\") as *mut c_void".into(),
            ("flowmesh_drop_t", 0) => "w.drop_function()".into(),
            (callback, 0) if self.callbacks.contains_key(callback) => {
                format!("w.callback(on_{callback} as *mut c_void)")
            }
            ("flowmesh_view_t", 0) => "w.view()".into(),
            ("int64_t", 0) => format!("w.int64({function:?}, {name:?})"),
            ("int32_t", 0) => "w.int32()".into(),
            ("size_t", 0) if before.is_some_and(|b| self.structs.contains_key(&b.base)) => "w.count()".into(),
            ("size_t", 0) => format!("w.size({name:?})"),
            ("bool", 0) => "w.flag()".into(),
            (base, stars) => panic!("{function}: no argument is known for {name}: {base} with {stars} stars"),
        }
    }

    fn call(&self, function: &Named, parameters: &[Named]) -> String {
        let name = &function.name;
        let mut out = String::from("{\n");
        for (i, parameter) in parameters.iter().enumerate() {
            let before = i.checked_sub(1).map(|before| &parameters[before]);
            writeln!(out, "let p{i} = {};", self.argument(name, parameter, before)).expect("text");
        }
        let arguments: Vec<String> = (0..parameters.len()).map(|i| format!("p{i}")).collect();
        writeln!(out, "w.ready({name:?});").expect("text");
        writeln!(out, "let result = unsafe {{ {name}({}) }};", arguments.join(", ")).expect("text");
        let after = match (&function.base[..], function.stars) {
            ("flowmesh_status_t", 0) => format!("w.status({name:?}, result);"),
            ("char", 1) => "w.check_text(result);".into(),
            ("flowmesh_view_t", 0) => "w.check_view(result);".into(),
            ("bool", 0) if name.ends_with("_get_header") => "w.found(result, p2);".into(),
            (base, 1) if self.is_handle(base) => format!("w.borrowed({base:?}, result, p0);"),
            _ => "w.returned();".into(),
        };
        out.push_str(&after);
        out.push_str("\n}");
        out
    }

    /// The function that takes a callback: notes the call, frees or keeps what is now ours.
    fn callback(&self, name: &str, result: &Named, parameters: &[Named]) -> String {
        let typed: Vec<String> = parameters
            .iter()
            .enumerate()
            .map(|(i, parameter)| format!("p{i}: {}", self.rust_type(parameter)))
            .collect();
        let completes = parameters.iter().any(|p| p.base == "flowmesh_error_t" && !p.constant);
        let user = parameters.iter().position(|p| p.name == "user_data").expect("callbacks have user data");
        let result_type = self.rust_type(result);
        let mut out = format!("extern \"C\" fn on_{name}({}) -> {result_type} {{\n", typed.join(", "));
        writeln!(out, "users::called(p{user}, {completes});").expect("text");
        if name == "flowmesh_job_handler_t" {
            return out + "users::handle(p0, p1)\n}\n";
        }
        for (i, parameter) in parameters.iter().enumerate() {
            let Named { base, stars, constant, .. } = parameter;
            if *stars == 1 && self.is_handle(base) {
                let what = if *constant { "lent" } else { "given" };
                writeln!(out, "users::{what}({base:?}, p{i});").expect("text");
            } else {
                writeln!(out, "let _ = p{i};").expect("text");
            }
        }
        out + "}\n"
    }

    /// Size of a field and how to fill it.
    fn field(&self, field: &Named) -> (usize, &'static str) {
        match (self.base(&field.base), field.stars) {
            ("size_t", 0) if field.name == "size" => (8, "Size"),
            ("size_t", 0) => (8, "Count"),
            ("int64_t" | "uint64_t", 0) => (8, "Int64"),
            ("double", 0) => (8, "Double"),
            ("int32_t", 0) => (4, "Int32"),
            ("char", 0) => (field.array, "Bytes"),
            ("flowmesh_view_t", 0) => (16, "View"),
            ("char", 1) => (8, "Text"),
            ("flowmesh_header_t", 1) => (8, "Headers"),
            ("flowmesh_cancel_t", 1) => (8, "Cancel"),
            (_, 1) => (8, "Pointer"),
            (base, stars) => panic!("the field {} is of an unknown type: {base}, {stars} stars", field.name),
        }
    }

    fn layout(&self, name: &str, fields: &[Named]) -> String {
        let (mut at, mut most) = (0usize, 1);
        let mut list = String::new();
        for field in fields {
            let (size, kind) = self.field(field);
            let align = if kind == "Bytes" { 1 } else { size.min(8) };
            most = most.max(align);
            at = at.next_multiple_of(align);
            write!(list, "Field {{ name: {:?}, at: {at}, kind: Kind::{kind} }}, ", field.name).expect("text");
            at += size;
        }
        let size = at.next_multiple_of(most);
        format!("Layout {{ name: {name:?}, size: {size}, fields: &[{list}] }},\n")
    }

    fn generate(&self) -> String {
        let called: Vec<&(Named, Vec<Named>)> =
            self.functions.iter().filter(|(f, _)| !LEFT_OUT.contains(&&f.name[..])).collect();
        let mut out = String::from("unsafe extern \"C\" {\n");
        for function in &called {
            writeln!(out, "pub {};", self.declaration(function)).expect("text");
        }
        out.push_str("}\n\n");
        for (name, (result, parameters)) in &self.callbacks {
            if !matches!(&name[..], "flowmesh_drop_t" | "flowmesh_log_callback_t") {
                out.push_str(&self.callback(name, result, parameters));
            }
        }
        writeln!(out, "pub const COUNT: usize = {};\n", called.len()).expect("text");
        out.push_str("pub fn call(w: &mut World<'_>, number: usize) {\nmatch number {\n");
        for (number, (function, parameters)) in called.iter().enumerate() {
            writeln!(out, "{number} => {}", self.call(function, parameters)).expect("text");
        }
        out.push_str("_ => {}\n}\n}\n\npub const LAYOUTS: &[Layout] = &[\n");
        for (name, fields) in &self.structs {
            if name != "flowmesh_header_t" {
                out.push_str(&self.layout(name, fields));
            }
        }
        out.push_str("];\n\npub fn free(kind: &str, handle: *mut c_void) {\nmatch kind {\n");
        for (function, parameters) in &self.functions {
            if function.name.ends_with("_free") {
                writeln!(out, "{:?} => unsafe {{ {}(handle) }},", parameters[0].base, function.name)
                    .expect("text");
            }
        }
        out.push_str("_ => {}\n}\n}\n");
        out
    }
}
