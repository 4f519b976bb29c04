-- A plausible webshop, as invpipe.toml beside this file maps it. Times are UTC. Vendor offers lie in MongoDB.

CREATE TABLE products (
  product_id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  sku        VARCHAR(64) NOT NULL UNIQUE,
  title      VARCHAR(255),
  brand      VARCHAR(100),
  category   VARCHAR(100),
  format     VARCHAR(100),
  released   DATE,
  price      DECIMAL(12,4) NOT NULL
);

CREATE TABLE orders (
  order_id   BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  placed_at  DATETIME(6) NOT NULL,
  status     ENUM('placed', 'paid', 'shipped', 'cancelled') NOT NULL,
  KEY placed_at (placed_at)
);

CREATE TABLE order_lines (
  order_id   BIGINT UNSIGNED NOT NULL,
  line_no    SMALLINT UNSIGNED NOT NULL,
  product_id INT UNSIGNED NOT NULL,
  quantity   INT UNSIGNED NOT NULL,
  unit_price DECIMAL(12,4) NOT NULL,
  discount   DECIMAL(12,4) NOT NULL DEFAULT 0,
  PRIMARY KEY (order_id, line_no)
);

-- Returns are no negative sales: who sends a book back has wanted one.
CREATE TABLE returns (
  return_id   BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id    BIGINT UNSIGNED NOT NULL,
  line_no     SMALLINT UNSIGNED NOT NULL,
  returned_at DATETIME(6) NOT NULL,
  quantity    INT UNSIGNED NOT NULL
);

CREATE TABLE stock_ledger (
  entry_id   BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  product_id INT UNSIGNED NOT NULL,
  booked_at  DATETIME(6) NOT NULL,
  units      INT NOT NULL,
  left_units INT NOT NULL,
  reason     ENUM('sale', 'arrival', 'return', 'count') NOT NULL,
  KEY booked_at (booked_at)
);

CREATE TABLE vendors (
  vendor_code     VARCHAR(32) NOT NULL PRIMARY KEY,
  lead_time_days  DECIMAL(6,2) NOT NULL,
  lead_time_sd    DECIMAL(6,2) NOT NULL,
  min_order_value DECIMAL(12,2) NOT NULL
);

CREATE TABLE page_view_log (
  view_id    BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  product_id INT UNSIGNED NOT NULL,
  viewed_at  DATETIME NOT NULL,
  KEY viewed_at (viewed_at)
);
