// SPDX-License-Identifier: Apache-2.0

export class Header {
  constructor(public name: string, public value: string) {}
}

/**
 * The configuration of add-headers: {"request":{NAME:VALUE,...},"response":{NAME:VALUE,...}}. Of JSON this
 * reads just that shape, and in strings just the escapes \" \\ and \/ .
 */
export class HeaderConfig {
  request: Header[] = [];
  response: Header[] = [];
  /** What is wrong; empty when nothing is. */
  error: string = "";

  private text: string = "";
  private at: i32 = 0;

  static parse(text: string): HeaderConfig {
    const config = new HeaderConfig();
    config.text = text;
    if (config.parseSections() && config.peek() != -1) config.fail("something follows the object");
    return config;
  }

  private fail(error: string): bool {
    if (this.error == "") this.error = error;
    return false;
  }

  /** The next character that is no space, or -1 at the end. */
  private peek(): i32 {
    const text = this.text;
    while (this.at < text.length && " \t\r\n".includes(text.charAt(this.at))) this.at++;
    return this.at < text.length ? text.charCodeAt(this.at) : -1;
  }

  private accept(wanted: string): bool {
    if (this.peek() != wanted.charCodeAt(0)) return false;
    this.at++;
    return true;
  }

  private expect(wanted: string): bool {
    return this.accept(wanted) || this.fail("expected " + wanted);
  }

  /** The string, or null. */
  private parseString(): string | null {
    if (!this.expect('"')) return null;
    let result = "";
    while (this.at < this.text.length) {
      let char = this.text.charAt(this.at++);
      if (char == '"') return result;
      if (char == "\\") {
        char = this.text.charAt(this.at++);
        if (char == "" || !'"\\/'.includes(char)) {
          this.fail('only the escapes \\" \\\\ and \\/ are known');
          return null;
        }
      }
      // A line break would let a value become another header.
      if (char.charCodeAt(0) < 0x20 || char.charCodeAt(0) == 0x7f) {
        this.fail("a string has a control character");
        return null;
      }
      result += char;
    }
    this.fail("a string has no end");
    return null;
  }

  private parseSections(): bool {
    if (!this.expect("{")) return false;
    if (this.accept("}")) return true;
    do {
      const name = this.parseString();
      if (name === null || !this.expect(":")) return false;
      let headers: Header[];
      if (name == "request") headers = this.request;
      else if (name == "response") headers = this.response;
      else return this.fail('the fields are "request" and "response"');
      if (!this.parseHeaders(headers)) return false;
    } while (this.accept(","));
    return this.expect("}");
  }

  private parseHeaders(headers: Header[]): bool {
    if (!this.expect("{")) return false;
    if (this.accept("}")) return true;
    do {
      const name = this.parseString();
      if (name === null || !this.expect(":")) return false;
      if (!isHeaderName(name)) return this.fail('"' + name + '" is not a header name');
      const value = this.parseString();
      if (value === null) return false;
      headers.push(new Header(name, value));
    } while (this.accept(","));
    return this.expect("}");
  }
}

function isHeaderName(name: string): bool {
  const known = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
  for (let i = 0; i < name.length; i++) {
    if (!known.includes(name.charAt(i))) return false;
  }
  return name != "";
}
